from __future__ import annotations

from typing import Any

import pytest

from until_ack_localstack.mail.template import RenderingError, render


@pytest.mark.parametrize(
    ("template", "data", "text"),
    [
        ("Hi {{name}}!", {"name": "Bö"}, "Hi Bö!"),
        ("{{ name }}", {"name": 5}, "5"),
        ("{{a.b}}", {"a": {"b": "deep"}}, "deep"),
        ("{{html}} {{{html}}}", {"html": "<b>&</b>"}, "<b>&</b> <b>&</b>"),
        ("{{#if a}}yes{{else}}no{{/if}}", {"a": "x"}, "yes"),
        ("{{#if a}}yes{{else}}no{{/if}}", {}, "no"),
        ("{{#if a}}{{a}}{{/if}}", {}, ""),
        ("{{#unless a}}none{{/unless}}", {"a": []}, "none"),
        ("{{#unless a}}none{{else}}some{{/unless}}", {"a": [1]}, "some"),
        ("{{#each l}}<{{this}}>{{/each}}", {"l": ["a", 2]}, "<a><2>"),
        ("{{#each l}}{{n}}{{out}} {{/each}}", {"l": [{"n": 1}, {"n": 2}], "out": "!"}, "1! 2! "),
        ("{{#each l}}x{{else}}empty{{/each}}", {"l": []}, "empty"),
        ("{{#each l}}{{#if this.on}}{{this.n}}{{/if}}{{/each}}", {"l": [{"on": True, "n": 1}, {"n": 2}]}, "1"),
        ("{{! a remark }}text", {}, "text"),
        ("{ not a tag }", {}, "{ not a tag }"),
        ("{{flag}}", {"flag": True}, "true"),
    ],
)
def test_what_is_rendered(template: str, data: dict[str, Any], text: str) -> None:
    assert render(template, data) == text


@pytest.mark.parametrize(
    ("template", "data"),
    [
        ("{{missing}}", {}),
        ("{{a.b}}", {"a": "text"}),
        ("{{a}}", {"a": None}),
        ("{{#if a}}open", {"a": 1}),
        ("{{/if}}", {}),
        ("{{#each a}}{{/each}}", {"a": "text"}),
        ("{{#with a}}{{/with}}", {"a": {}}),
    ],
)
def test_what_fails_to_render(template: str, data: dict[str, Any]) -> None:
    with pytest.raises(RenderingError):
        render(template, data)
