"""The Model Context Protocol, mounted at /mcp: translates calls of tools to `Tasks`' verbs and their results back."""
