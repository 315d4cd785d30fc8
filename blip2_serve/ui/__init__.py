"""The gradio page at /ui. `web_page.WebPage` is the entry point and imports without gradio."""
