"""The suite `ruler`: RULER's thirteen tasks by its parameters, in words and code of our own."""
