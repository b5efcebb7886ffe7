"""What people may have, by category: general knowledge, in words of our own.

No kind is of two categories, and no name of a category has a word of one of its kinds.
"""

from collections.abc import Mapping

__all__ = ["CATEGORIES"]

CATEGORIES: Mapping[str, tuple[str, ...]] = {
    "a musical instrument": ("banjo", "cello", "flute", "trumpet", "violin", "harp", "clarinet"),
    "a vehicle": ("bicycle", "motorcycle", "tractor", "truck", "van", "limousine", "scooter"),
    "a farm animal": ("donkey", "goat", "horse", "sheep", "cow", "pig", "mule"),
    "a bird": ("parrot", "canary", "falcon", "owl", "pigeon", "swan", "peacock"),
    "a reptile": ("tortoise", "lizard", "iguana", "python", "crocodile", "gecko"),
    "a piece of furniture": ("armchair", "bookcase", "sofa", "stool", "wardrobe", "desk"),
    "a tool": ("chisel", "drill", "hammer", "saw", "wrench", "screwdriver", "pliers"),
    "a piece of clothing": ("coat", "jacket", "shirt", "sweater", "trousers", "skirt"),
    "something to wear on the feet": ("boots", "sandals", "slippers", "sneakers", "clogs"),
    "a piece of jewelry": ("necklace", "bracelet", "brooch", "earrings", "pendant", "tiara"),
    "a boat": ("canoe", "kayak", "yacht", "dinghy", "gondola", "catamaran", "raft"),
    "an aircraft": ("helicopter", "glider", "airplane", "airship", "seaplane", "jet"),
    "a weapon": ("sword", "dagger", "rifle", "pistol", "spear", "crossbow", "cannon"),
    "a fruit": ("apple", "banana", "pineapple", "mango", "pear", "cherry", "melon"),
    "a vegetable": ("carrot", "cabbage", "onion", "spinach", "broccoli", "cauliflower"),
    "a flower": ("rose", "tulip", "orchid", "daisy", "sunflower", "lily", "dahlia"),
    "a tree": ("oak", "birch", "maple", "willow", "pine", "cedar", "beech"),
    "a gemstone": ("diamond", "ruby", "emerald", "sapphire", "topaz", "amethyst", "opal"),
    "a kind of cheese": ("gouda", "cheddar", "brie", "parmesan", "camembert", "gruyere"),
    "an alcoholic drink": ("whisky", "brandy", "wine", "beer", "champagne", "vodka", "cider"),
    "something to write with": ("pen", "pencil", "crayon", "quill", "typewriter", "chalk"),
    "a kitchen appliance": ("toaster", "blender", "oven", "refrigerator", "microwave", "kettle"),
    "an optical instrument": ("telescope", "microscope", "binoculars", "periscope", "magnifier"),
    "a timepiece": ("wristwatch", "hourglass", "sundial", "stopwatch", "clock", "metronome"),
    "a building": ("cottage", "castle", "barn", "lighthouse", "windmill", "mansion", "chapel"),
    "a board game": ("chess", "checkers", "backgammon", "ludo", "scrabble", "monopoly"),
    "a fabric": ("silk", "velvet", "linen", "wool", "cotton", "denim", "satin"),
    "a metal": ("copper", "iron", "silver", "tin", "zinc", "nickel", "platinum"),
    "a spice": ("cinnamon", "pepper", "saffron", "nutmeg", "turmeric", "cumin", "paprika"),
    "a dessert": ("pudding", "cheesecake", "tiramisu", "pie", "sorbet", "brownie"),
}
"""What is asked for -> what a needle may name instead."""
