"""The command `blip2-serve`, one file per subcommand. Subcommands import torch only when they need it."""
