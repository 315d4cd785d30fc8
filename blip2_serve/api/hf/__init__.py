"""The Hugging Face Hub's inference tasks, mounted at /hf: a path for each task, translated to `Tasks`' verbs."""
