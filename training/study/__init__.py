"""A study: arms, seeds and stages, trained, evaluated and compared by the commands of exactcpt."""
