"""What a model does with distant text: items, their scores, and the files that hold both."""
