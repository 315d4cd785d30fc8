"""How far a caption can be trusted: which of its words the picture supports, and how often such a caption is right."""
