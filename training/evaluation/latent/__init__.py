"""The suite `latent`: needles that share no word with the question that needs them."""
