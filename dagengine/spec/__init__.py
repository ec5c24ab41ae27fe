"""What a workflow is: the document, how it is read, checked, built in Python and referred to.

Pure: text or values go in, a `model.Document` or one `errors.SpecError` with every problem comes out. No clock, no
files, no threads, no Lua. The rooms, from the bottom:

- `model`, `duration`: the document as typed, immutable values.
- `path`, `suggestion`, `plain`: where a problem is, what was probably meant, which values are JSON.
- `text`: YAML and JSON text to plain values, every value with its line and column.
- `outline`: what can be understood of a document, however wrong the rest of it is.
- `shape`, `topology`, `scope`, `details`, `input_schema`: the checks.
- `expression`: which nodes and inputs Lua code mentions, and `{{ }}` templates.
- `manifest`: the Kubernetes form of a document, read and written.
- `document`: all of it together: `read(text)` and `from_dict(value)`.
- `inputs`: the inputs of one execution against `spec.inputs`.
- `builder`, `reference`, `schema`: workflows in Python, `id@^1.2`, the JSON Schema for editors.

Nothing is imported here, so that a command that needs one room does not pay for the others.
"""
