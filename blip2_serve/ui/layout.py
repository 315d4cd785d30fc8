"""The page: one picture on the left, a tab for each task on the right."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import gradio as gr
from fastapi import FastAPI
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware

from blip2_serve.config import Settings
from blip2_serve.model.checkpoints import BUNDLED
from blip2_serve.tasks.verbs import Tasks
from blip2_serve.ui.calls import Check
from blip2_serve.ui.picture import picture_input
from blip2_serve.ui.queue import Rest, bound_sessions
from blip2_serve.ui.tabs.ask import ask_tab
from blip2_serve.ui.tabs.caption import caption_tab
from blip2_serve.ui.tabs.chat import chat_tab
from blip2_serve.ui.tabs.choose import choose_tab

_FONT = ["system-ui", "sans-serif"]
_MONO = ["ui-monospace", "monospace"]
_DEMO_SEES = "It knows one or two coloured shapes on a plain background and nothing else."


@dataclass(frozen=True)
class GradioPage:
    """The page as an application, whose lifespan the caller must run; the inputs that each of its functions takes."""

    app: FastAPI
    inputs: dict[int, tuple[Check, ...]]
    rest: Rest


def gradio_page(tasks: Tasks, settings: Settings, examples: Sequence[Path]) -> GradioPage:
    """Build the page.

    `examples` must lie in gradio's own file folder. Gradio reads all options not given here from GRADIO_*.
    """
    page = _page(tasks, examples)
    page.queue(max_size=settings.max_queue, default_concurrency_limit=None, api_open=False)
    bound_sessions(page)
    app: FastAPI = gr.mount_gradio_app(
        # With a CORS policy around it, of nobody, gradio does not add its own, which lets every origin read.
        FastAPI(openapi_url=None, middleware=[Middleware(CORSMiddleware)]),
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
    with_code = {number: function for number, function in page.fns.items() if function.fn}
    inputs = {number: tuple(map(_check_of, function.inputs)) for number, function in with_code.items()}
    return GradioPage(app, inputs, Rest(page))


def _check_of(component: Any) -> Check:
    """Build the check that gradio makes of a value for this component, where it makes one."""
    model = getattr(component, "data_model", None)
    return _anything if model is None else partial(model.model_validate, context={"validate_meta": True})


def _anything(value: object) -> object:
    return value


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
