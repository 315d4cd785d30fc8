"""A LoRA adapter (`BLIP2_ADAPTER`): found, checked against its base model, and merged into the weights as they load."""
