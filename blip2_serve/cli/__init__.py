"""The command `blip2-serve`: one file per subcommand. Only the commands that need torch import it."""
