"""Beam's options, parsed once."""

from typing import Any

from apache_beam.options.pipeline_options import PipelineOptions

__all__ = ["KeptOptions"]


class KeptOptions(PipelineOptions):
    """Options whose views are kept.

    Beam looks at them for every transform that is added to a graph, and makes a parser each time.
    All views of one object share their values, so one view of a kind is as good as another.
    """

    def __init__(self, *flags: Any, **values: Any) -> None:
        super().__init__(*flags, **values)
        self.__dict__["_views"] = {}

    def view_as(self, cls: type[Any]) -> Any:
        """See Beam."""
        views = self.__dict__["_views"]
        if cls not in views:
            views[cls] = super().view_as(cls)
        return views[cls]
