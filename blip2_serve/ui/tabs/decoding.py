"""Decoding controls, labelled as in the BLIP-2 Space, and their values as endpoint fields."""

import gradio as gr

from blip2_serve.families import Family

BEAM_SEARCH, NUCLEUS_SAMPLING = "Beam search", "Nucleus sampling"


def decoding_controls(family: Family) -> list[gr.components.Component]:
    """Build the controls, in the order of `decoding_fields`' parameters, set as the family's captions are decoded."""
    repetition_penalty = family.caption_defaults.get("repetition_penalty", 1.0)
    with gr.Accordion("Decoding", open=False):
        return [
            gr.Radio([BEAM_SEARCH, NUCLEUS_SAMPLING], value=BEAM_SEARCH, label="Method", elem_id="method"),
            _slider(0.1, 2.0, 0.1, "Temperature", "with nucleus sampling: higher varies more"),
            _slider(-2.0, 4.0, 0.5, "Length penalty", "with beam search: higher favours length"),
            _slider(1.0, 5.0, 0.1, "Repetition penalty", "higher prevents repetition", repetition_penalty),
        ]


def decoding_fields(
    method: str, temperature: float, length_penalty: float, repetition_penalty: float
) -> dict[str, object]:
    """Convert the controls' values to endpoint fields."""
    if method == NUCLEUS_SAMPLING:
        return {"do_sample": True, "temperature": temperature, "repetition_penalty": repetition_penalty}
    return {"length_penalty": length_penalty, "repetition_penalty": repetition_penalty}


def _slider(lowest: float, highest: float, step: float, label: str, info: str, value: float = 1.0) -> gr.Slider:
    elem_id = label.lower().replace(" ", "-")
    return gr.Slider(lowest, highest, value, step=step, label=label, info=info, elem_id=elem_id)
