"""The page: one picture on the left, a tab for each task on the right."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import gradio as gr
from fastapi import FastAPI

from blip2_serve.config import Settings
from blip2_serve.model.checkpoints import BUNDLED
from blip2_serve.tasks.verbs import Tasks
from blip2_serve.ui.ask_tab import ask_tab
from blip2_serve.ui.caption_tab import caption_tab
from blip2_serve.ui.chat_tab import chat_tab
from blip2_serve.ui.choose_tab import choose_tab
from blip2_serve.ui.picture import picture_input
from blip2_serve.ui.queue import Rest, bound_sessions

_FONT = ["system-ui", "sans-serif"]
_MONO = ["ui-monospace", "monospace"]
_DEMO_SEES = "It knows one or two coloured shapes on a plain background and nothing else."


@dataclass(frozen=True)
class GradioPage:
    """The page as an application, whose lifespan the caller must run; how many inputs each of its functions has."""

    app: FastAPI
    num_inputs: dict[int, int]
    rest: Rest


def gradio_page(tasks: Tasks, settings: Settings, examples: Sequence[Path]) -> GradioPage:
    """Build the page.

    `examples` must lie in gradio's own file folder. Gradio reads all options not given here from GRADIO_*.
    """
    page = _page(tasks, examples)
    page.queue(max_size=settings.max_queue, default_concurrency_limit=None, api_open=False)
    bound_sessions(page)
    app: FastAPI = gr.mount_gradio_app(
        FastAPI(openapi_url=None),
        page,
        path="",
        max_file_size=settings.max_request_bytes,
        show_error=False,
        footer_links=[],
        run_history=False,
        ssr_mode=False,
        enable_monitoring=False,
        pwa=False,
        mcp_server=False,
        theme=gr.themes.Default(font=_FONT, font_mono=_MONO),
    )
    page.has_launched = True  # as `launch` sets it: otherwise gradio does not check which files a call may name
    num_inputs = {number: len(function.inputs) for number, function in page.fns.items()}
    return GradioPage(app, num_inputs, Rest(page))


def _page(tasks: Tasks, examples: Sequence[Path]) -> gr.Blocks:
    with gr.Blocks(title="blip2-serve", analytics_enabled=False) as page:
        gr.Markdown(f"# BLIP-2\n{_introduction(tasks.model_name)}")
        with gr.Row():
            with gr.Column(scale=2, min_width=320):
                picture = picture_input(examples)
            with gr.Column(scale=3, min_width=320), gr.Tabs():
                for name, tab in _TABS.items():
                    with gr.Tab(name):
                        tab(picture, tasks)
    return page


_TABS = {"Caption": caption_tab, "Ask": ask_tab, "Choose": choose_tab, "Chat": chat_tab}


def _introduction(model_name: str) -> str:
    return f"Answers by `{model_name}`. {_DEMO_SEES if model_name in BUNDLED else ''}"
