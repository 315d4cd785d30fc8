"""How to decode, in the words of the BLIP-2 Space; the fields are those of the endpoints."""

import gradio as gr

BEAM_SEARCH, NUCLEUS_SAMPLING = "Beam search", "Nucleus sampling"


def decoding_controls() -> list[gr.components.Component]:
    """The controls, in the order of `decoding_fields`' parameters."""
    with gr.Accordion("Decoding", open=False):
        return [
            gr.Radio([BEAM_SEARCH, NUCLEUS_SAMPLING], value=BEAM_SEARCH, label="Method", elem_id="method"),
            gr.Slider(0.1, 2.0, 1.0, step=0.1, label="Temperature", info="with nucleus sampling: higher varies more"),
            gr.Slider(-2.0, 4.0, 1.0, step=0.5, label="Length penalty", info="with beam search: higher favours length"),
            gr.Slider(1.0, 5.0, 1.0, step=0.1, label="Repetition penalty", info="higher prevents repetition"),
        ]


def decoding_fields(
    method: str, temperature: float, length_penalty: float, repetition_penalty: float
) -> dict[str, object]:
    """The fields that the endpoints call these."""
    if method == NUCLEUS_SAMPLING:
        return {"do_sample": True, "temperature": temperature, "repetition_penalty": repetition_penalty}
    return {"length_penalty": length_penalty, "repetition_penalty": repetition_penalty}
