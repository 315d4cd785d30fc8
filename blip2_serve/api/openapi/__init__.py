"""What /docs.json says, part by part: bodies, answers, errors, examples, probes. Plain dictionaries, no HTTP."""
