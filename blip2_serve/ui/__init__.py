"""The web page at /ui: `Tasks` for people, by gradio. `web_page.WebPage` is the way in; the rest needs gradio."""
