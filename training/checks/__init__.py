"""Checks of anybody's trainer: does it keep documents apart, and do the weights arrive?"""
