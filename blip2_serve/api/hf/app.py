"""The application mounted at /hf: a path for each of the Hub's tasks that BLIP-2 can do."""

import asyncio
from collections.abc import Callable, Collection
from typing import Any

from fastapi import FastAPI, Request, Response

from blip2_serve.api.body import read_json_or_picture
from blip2_serve.api.disconnect import while_connected
from blip2_serve.api.errors import FieldNames, add_error_answers
from blip2_serve.api.hf.labels import Labels, TaskLabel, labelled
from blip2_serve.api.hf.request import TaskInput, read_task
from blip2_serve.api.hf.schema import ANSWERED, CAPTIONED, LABELLED
from blip2_serve.api.hf.writing import (
    CAPTION_NAMES,
    QUESTION_NAMES,
    TaskAnswer,
    TaskCaption,
    answer_options,
    answers,
    caption_fields,
    question_fields,
)
from blip2_serve.api.leniency import Ignored
from blip2_serve.api.native.fields import validate_fields
from blip2_serve.errors import Part
from blip2_serve.tasks.prompt import PromptSpec
from blip2_serve.tasks.verbs import Tasks

PATHS = ("/image-to-text", "/visual-question-answering", "/zero-shot-image-classification")
_FIELDS: FieldNames = {
    Part.IMAGE: "inputs",
    Part.IMAGE_ID: "inputs",
    Part.PROMPT: "inputs",
    Part.CHOICES: "candidate_labels",
    Part.TEXTS: "inputs",
}
_EXAMPLE = 'a picture, or {"inputs": "<base64>", "parameters": {...}}'


class _Endpoints:
    """The endpoints, on the tasks of the running service."""

    def __init__(self, get_tasks: Callable[[], Tasks]) -> None:
        self._get_tasks = get_tasks

    async def image_to_text(self, request: Request, response: Response) -> list[TaskCaption]:
        """Caption a picture."""
        tasks, task, ignored = await self._read(request, CAPTION_NAMES)
        fields, image = caption_fields(task.values), await asyncio.to_thread(task.image)
        making = tasks.caption(image, fields.txt, fields.options(tasks.family), fields.output)
        made = await while_connected(request, making)
        response.headers.update({**_told(made.image_id, made.guards), **ignored.headers})
        return [TaskCaption(generated_text=made.text)]

    async def visual_question_answering(self, request: Request, response: Response) -> list[TaskAnswer]:
        """Answer a question about a picture."""
        tasks, task, ignored = await self._read(request, QUESTION_NAMES)
        fields, num_answers = question_fields(task.values)
        options = answer_options(fields, num_answers, tasks.family)
        image = await asyncio.to_thread(task.image)
        answering = tasks.complete(image, PromptSpec("vqa", fields.txt), options, fields.output)
        done = await while_connected(request, answering)
        response.headers.update({**_told(done.image_id, done.guards), **ignored.headers})
        return answers(done, options)

    async def zero_shot_image_classification(self, request: Request, response: Response) -> list[TaskLabel]:
        """Choose among labels for a picture."""
        tasks, task, ignored = await self._read(request, Labels.model_fields)
        asked, image = validate_fields(Labels, task.values), await asyncio.to_thread(task.image)
        labels = asked.by_answer()
        ranked = await while_connected(request, tasks.choose(image, asked.question, list(labels), asked.normalize))
        response.headers.update({**_told(ranked.image_id), **ignored.headers})
        return labelled(ranked.choices, labels)

    async def _read(self, request: Request, known: Collection[str]) -> tuple[Tasks, TaskInput, Ignored]:
        tasks = self._get_tasks()
        ignored = Ignored(strict=tasks.settings.strict == "on")
        return tasks, read_task(await read_json_or_picture(request, _EXAMPLE), known, ignored), ignored


def hf_app(get_tasks: Callable[[], Tasks]) -> FastAPI:
    """Build the application, before the model is loaded: each request calls `get_tasks`."""
    app = FastAPI(openapi_url=None)
    endpoints = _Endpoints(get_tasks)
    tasks: list[tuple[Callable[..., Any], dict[str, Any]]] = [
        (endpoints.image_to_text, CAPTIONED),
        (endpoints.visual_question_answering, ANSWERED),
        (endpoints.zero_shot_image_classification, LABELLED),
    ]
    for path, (endpoint, content) in zip(PATHS, tasks, strict=True):
        app.add_api_route(
            path,
            endpoint,
            methods=["POST"],
            tags=["Hugging Face"],
            operation_id=endpoint.__name__,
            openapi_extra={"requestBody": {"required": True, "content": content}},
        )
    add_error_answers(app, _FIELDS)
    return app


def _told(image_id: str, guards: tuple[str, ...] = ()) -> dict[str, str]:
    return {"X-Image-Id": image_id, **({"X-Guards": ", ".join(guards)} if guards else {})}
