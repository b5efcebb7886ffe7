"""SPDX identifiers as the card of a data set on the Hugging Face hub spells them.

The hub has a list of its own, https://huggingface.co/docs/hub/repositories-licenses. What is not
on it has the licence `other`, with a name.
"""

__all__ = ["licence_fields"]

AS_IN_SPDX = {
    "afl-3.0", "agpl-3.0", "apache-2.0", "artistic-2.0", "bsd-2-clause", "bsd-3-clause",
    "bsd-3-clause-clear", "bsl-1.0", "cc-by-2.0", "cc-by-2.5", "cc-by-3.0", "cc-by-4.0",
    "cc-by-nc-2.0", "cc-by-nc-3.0", "cc-by-nc-4.0", "cc-by-nc-nd-3.0", "cc-by-nc-nd-4.0",
    "cc-by-nc-sa-2.0", "cc-by-nc-sa-3.0", "cc-by-nc-sa-4.0", "cc-by-nd-4.0", "cc-by-sa-3.0",
    "cc-by-sa-4.0", "cc0-1.0", "cdla-permissive-1.0", "cdla-permissive-2.0", "cdla-sharing-1.0",
    "ecl-2.0", "epl-1.0", "epl-2.0", "etalab-2.0", "eupl-1.1", "eupl-1.2", "gpl-2.0", "gpl-3.0",
    "isc", "lgpl-2.1", "lgpl-3.0", "lppl-1.3c", "mit", "mpl-2.0", "ms-pl", "ncsa", "ofl-1.1",
    "osl-3.0", "postgresql", "unlicense", "wtfpl", "zlib",
}  # fmt: skip
OTHERWISE = {
    "c-uda-1.0": "c-uda",
    "odbl-1.0": "odbl",
    "odc-by-1.0": "odc-by",
    "pddl-1.0": "pddl",
}
"""What the hub spells in another way."""
VARIANTS = ("-only", "-or-later")
"""Of GNU licences; the hub does not tell them apart."""


def licence_fields(spdx: str | None) -> dict[str, str]:
    """The fields of a card that say a licence.

    Args:
        spdx: an SPDX identifier, in any case; None if nobody has stated one.
    """
    if spdx is None:
        return {"license": "unknown"}
    name = spdx.lower()
    for variant in VARIANTS:
        name = name.removesuffix(variant)
    if name in AS_IN_SPDX:
        return {"license": name}
    if name in OTHERWISE:
        return {"license": OTHERWISE[name]}
    return {"license": "other", "license_name": spdx.lower()}
