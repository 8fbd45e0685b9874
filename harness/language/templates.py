"""Every prompt's wording, in one place: a change here is a change of what models are trained and asked.

A task has one wording or several; with several an example draws one, and the first is what test asks. ``{}`` is where
the task's input goes. It knows words only.
"""

from __future__ import annotations

INTRODUCTION = "Below are a task and its input. Answer the task for this input."

ONE_WORDING: dict[str, tuple[tuple[str, str], ...]] = {
    "next_sid": (
        ("Predict what the customer buys next.", "Purchases so far, oldest first: {}. Which item comes next?"),
    ),
    "sid_history_to_title": (
        (
            "Name what the customer buys next.",
            "Purchases so far, oldest first: {}. What is the title of the item that comes next?",
        ),
    ),
    "sid_history_to_description": (
        (
            "Describe what the customer buys next.",
            "Purchases so far, oldest first: {}. How is the item that comes next described?",
        ),
    ),
    "titles_to_title": (
        (
            "Name what the customer buys next from the titles bought so far.",
            "Titles bought so far, oldest first: {}. What is the title of the item that comes next?",
        ),
    ),
    "next_title": (
        (
            "Name what the customer buys next from the titles bought so far.",
            "Titles bought so far, oldest first: {}. What is the title of the item that comes next?",
        ),
    ),
    "titles_to_sid": (
        (
            "Predict what the customer buys next from the titles bought so far.",
            "Titles bought so far, oldest first: {}. Which item comes next?",
        ),
    ),
    "title_to_sid": (("Give the item that has this title.", "Title: {}. Which item is it?"),),
    "sid_to_title": (("Give the title of this item.", "Item: {}. What is its title?"),),
    "description_to_sid": (("Give the item that is described here.", "Description: {}. Which item is it?"),),
    "sid_to_description": (("Describe this item.", "Item: {}. How is it described?"),),
}
"""MiniOneRec, BIGRec, D3 and S-DPO: one wording a task, shared by training, RL and test."""

_MORE: dict[str, tuple[tuple[str, str], ...]] = {
    "next_sid": (
        ("Recommend the next item to this customer.", "The customer bought {} in this order. What follows?"),
        ("Continue this customer's purchases.", "So far: {}. Continue with one more item."),
        ("Say which item the customer will want.", "Having bought {}, what does the customer want now?"),
        ("Complete the shopping history.", "History: {}. The next entry is?"),
    ),
    "sid_history_to_title": (
        ("Give the title of the next purchase.", "The customer bought {} in this order. What is next called?"),
        ("Put the customer's next purchase into words.", "So far: {}. What is the next item called?"),
    ),
    "sid_history_to_description": (
        ("Tell what the next purchase is like.", "The customer bought {} in this order. What is next like?"),
        ("Put the customer's next purchase into words.", "So far: {}. What is the next item like?"),
    ),
    "titles_to_sid": (
        ("Recommend an item to a customer who bought these.", "Titles in order of purchase: {}. What follows?"),
        ("Continue these purchases with an item.", "Titles: {}. The next item is?"),
    ),
    "title_to_sid": (
        ("Find the item by its title.", "It is called {}. Which item is that?"),
        ("Name the item's identifier.", "Title: {}. Its identifier is?"),
        ("Look this title up in the catalogue.", "Look up {}."),
    ),
    "sid_to_title": (
        ("Say what this item is called.", "What is {} called?"),
        ("Turn the identifier into a title.", "Identifier: {}. Its title is?"),
        ("Look this item up in the catalogue.", "Look up the title of {}."),
    ),
    "description_to_sid": (
        ("Find the item by its description.", "It is described as follows: {}. Which item is that?"),
        ("Name the item's identifier.", "Description: {}. Its identifier is?"),
    ),
    "sid_to_description": (
        ("Say what this item is like.", "What is {} like?"),
        ("Turn the identifier into a description.", "Identifier: {}. Its description is?"),
    ),
}
SEVERAL_WORDINGS = {task: (*wordings, *_MORE.get(task, ())) for task, wordings in ONE_WORDING.items()}
"""LC-Rec: several wordings a task."""
