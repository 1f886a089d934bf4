"""The page of the HTTP interface at `/docs`, made of its OpenAPI description; it loads nothing from elsewhere."""

from __future__ import annotations

import json
from collections.abc import Mapping
from html import escape
from typing import Any

_HEAD = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>recgym: HTTP interface</title><link rel="stylesheet" href="/page.css"></head><body><main>
<h1>HTTP interface</h1>
<p>For tools: <a href="/openapi.json">openapi.json</a>. To try it: <a href="/">the page</a>.</p>
"""


def docs_page(description: Mapping[str, Any]) -> str:
    """Returns the page of an OpenAPI description as HTML."""
    parts = [_HEAD]
    for path, methods in description["paths"].items():
        for method, route in methods.items():
            parts.append(f"<section><h2>{escape(method.upper())} {escape(path)}</h2>")
            parts.append(f"<p>{escape(route.get('description', ''))}</p>")
            if route.get("parameters"):
                rows = [(one["name"], one["schema"], "") for one in route["parameters"]]
                parts.append(_table(rows))
            if body := route.get("requestBody"):
                schema = body["content"]["application/json"]["schema"]
                rows = [(name, one, one.get("description", "")) for name, one in schema["properties"].items()]
                parts.append(f"<p>{escape(schema.get('description', ''))}</p>{_table(rows)}")
                parts += [f"<pre>{escape(json.dumps(one))}</pre>" for one in schema.get("examples", [])]
            parts.append("</section>")
    return "\n".join([*parts, "</main></body></html>\n"])


def _table(rows: list[tuple[str, Mapping[str, Any], str]]) -> str:
    lines = [
        f"<tr><th scope='row'>{escape(name)}</th><td>{escape(about)}</td>"
        f"<td><code>{escape(_limits(schema))}</code></td></tr>"
        for name, schema, about in rows
    ]
    return f"<div class='wide'><table>{''.join(lines)}</table></div>"


def _limits(schema: Mapping[str, Any]) -> str:
    """Returns kind, default and limits of a value."""
    kinds = [one.get("type", "any") for one in schema.get("anyOf", [schema])]
    names = ("minimum", "maximum", "minLength", "maxLength", "minItems", "maxItems", "pattern", "enum", "default")
    limits = [f"{name} {json.dumps(schema[name])}" for name in names if name in schema]
    return ", ".join(["/".join(map(str, dict.fromkeys(kinds))), *limits])
