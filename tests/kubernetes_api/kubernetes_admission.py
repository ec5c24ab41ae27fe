"""What an object has to be to be taken: decoded, named, labelled and shaped as the server wants it."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final

import kubernetes_definitions as crds
import kubernetes_schemas as schemas
import kubernetes_status as status
from kubernetes_kinds import Kind
from kubernetes_status import Cause
from kubernetes_storage import copied

if TYPE_CHECKING:
    from kubernetes_resources import Options

Object = dict[str, Any]

_LABEL: Final = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?", re.ASCII)
_SUBDOMAIN: Final = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*", re.ASCII)
_QUALIFIED: Final = re.compile(r"([^/]+/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?", re.ASCII)
_VALUE: Final = re.compile(r"([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?", re.ASCII)
_SUBDOMAIN_WORDS: Final = (
    "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and"
    " end with an alphanumeric character (e.g. 'example.com', regex used for validation is"
    " '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"
)
_LABEL_WORDS: Final = (
    "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with"
    " an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is"
    " '[a-z0-9]([-a-z0-9]*[a-z0-9])?')"
)
_VALUE_WORDS: Final = (
    "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and"
    " end with an alphanumeric character"
)
_ANNOTATIONS_LIMIT: Final = 256 * 1024


def decoded(kind: Kind, body: Mapping[str, Any], options: Options, *, defaults: bool = True) -> Object:
    """The object of a request: without what is not known, with defaults. Refusal 400 where it cannot be read."""
    if not isinstance(body, dict):
        raise status.bad_request("the object provided is unrecognized: it is no JSON object")
    obj = copied(body)
    if not kind.custom:
        obj.setdefault("apiVersion", kind.api_version)
        obj.setdefault("kind", kind.kind)
    for name in ("kind", "apiVersion"):
        if not obj.get(name):
            raise status.bad_request(f"Object '{name[0].upper()}{name[1:]}' is missing in '{json.dumps(body)}'")
    if obj["apiVersion"] != kind.api_version:
        raise status.bad_request(
            f"the API version in the data ({obj['apiVersion']}) does not match the expected API version"
            f" ({kind.api_version})"
        )
    if obj["kind"] != kind.kind:
        raise status.bad_request(f"{obj['kind']} in version {kind.version!r} cannot be handled as a {kind.kind}")
    if not isinstance(obj.setdefault("metadata", {}), dict):
        raise status.bad_request(f'{_cannot(kind)}: json: cannot unmarshal into field "metadata"')
    place = schemas.Place.top(kind)
    unknown = list(schemas.prune(place, obj))
    obj.setdefault("metadata", {})
    words = [f'unknown field "{path}"' for path in unknown]
    if words and options.validation == "Strict":
        raise status.bad_request(f"{_cannot(kind)}: strict decoding error: {', '.join(words)}")
    if options.validation == "Warn":
        options.warnings.extend(words)
    if defaults:
        schemas.default(place, obj)
    _fits_structures(kind, obj)
    return obj


def _cannot(kind: Kind) -> str:
    return f'{kind.kind} in version "{kind.version}" cannot be handled as a {kind.kind}'


def _fits_structures(kind: Kind, obj: Object) -> None:
    """What a structure of the server cannot hold is refused before anything is looked at."""
    whole = schemas.Place.top(kind)
    part = whole.field("metadata") if kind.custom else whole
    assert part is not None
    for cause in schemas.validate(part, obj["metadata"] if kind.custom else obj):
        if cause.reason in {"FieldValueTypeInvalid", "FieldValueInvalid"}:
            raise status.bad_request(f"{_cannot(kind)}: json: cannot unmarshal field {cause.field}: {cause.message}")


def initial(kind: Kind, obj: Object) -> None:
    """What the server fills in where nothing is said, of what matters here."""
    spec = obj.get("spec")
    match kind.plural:
        case "pods":
            spec.setdefault("restartPolicy", "Always")
            spec.setdefault("terminationGracePeriodSeconds", 30)
            spec.setdefault("serviceAccountName", "default")
            obj["status"] = {"phase": "Pending"}
        case "deployments" | "statefulsets" | "replicasets" if not kind.custom and spec is not None:
            spec.setdefault("replicas", 1)
        case "secrets":
            obj.setdefault("type", "Opaque")
            _encode(obj)
        case "services" if spec is not None:
            spec.setdefault("type", "ClusterIP")
            spec.setdefault("clusterIP", "10.96.0.10")
        case "namespaces":
            obj["spec"] = {"finalizers": ["kubernetes"]}
            obj["status"] = {"phase": "Active"}
            obj["metadata"].setdefault("labels", {})["kubernetes.io/metadata.name"] = obj["metadata"]["name"]
        case "customresourcedefinitions":
            crds.establish(obj)


def _encode(secret: Object) -> None:
    """`stringData` is written only: it becomes data."""
    for name, text in secret.pop("stringData", {}).items():
        secret.setdefault("data", {})[name] = base64.b64encode(text.encode()).decode()


def check(kind: Kind, obj: Object) -> None:
    """Refusal 422 with everything that is wrong with an object."""
    if kind.plural == "secrets":
        _encode(obj)
    causes = [*_metadata(kind, obj["metadata"]), *schemas.validate(schemas.Place.top(kind), obj)]
    if kind.plural == "customresourcedefinitions" and not causes:
        causes = list(crds.problems(obj))
    if kind.plural == "secrets":
        causes += [
            Cause(reason="FieldValueInvalid", message=f"Invalid value: {name!r}: is not base64", field=f"data.{name}")
            for name, text in obj.get("data", {}).items()
            if not _base64(text)
        ]
    if kind.group == "apps" and not causes:
        causes = list(_selects_its_own(obj["spec"]))
    if causes:
        raise status.invalid(kind, obj["metadata"].get("name", ""), causes)


def _selects_its_own(spec: Object) -> Iterator[Cause]:
    """What makes pods has to find them again."""
    labels = (spec.get("template", {}).get("metadata") or {}).get("labels") or {}
    wanted = spec.get("selector", {}).get("matchLabels") or {}
    if not wanted.items() <= labels.items():
        words = f"Invalid value: {json.dumps(labels)}: `selector` does not match template `labels`"
        yield Cause(reason="FieldValueInvalid", message=words, field="spec.template.metadata.labels")


def _base64(text: str) -> bool:
    try:
        return bool(base64.b64decode(text, validate=True)) or not text
    except ValueError:
        return False


def _metadata(kind: Kind, meta: Object) -> Iterator[Cause]:
    name = meta.get("name", "")
    if not name:
        yield Cause(reason="FieldValueRequired", message="Required value: name or generateName is required",
                    field="metadata.name")  # fmt: skip
    elif kind.group != "rbac.authorization.k8s.io":
        strict = kind.plural in {"namespaces", "services"}
        fits = (_LABEL if strict else _SUBDOMAIN).fullmatch(name) and len(name) <= (63 if strict else 253)
        if not fits:
            words = _LABEL_WORDS if strict else _SUBDOMAIN_WORDS
            yield _bad("metadata.name", name, words)
    for field in ("labels", "annotations"):
        for key in meta.get(field, ()):
            if not _QUALIFIED.fullmatch(key):
                yield _bad(
                    f"metadata.{field}", key, "name part must consist of alphanumeric characters, '-', '_' or '.'"
                )
    for value in meta.get("labels", {}).values():
        if not _VALUE.fullmatch(value):
            yield _bad("metadata.labels", value, _VALUE_WORDS)
    if sum(len(key) + len(value) for key, value in meta.get("annotations", {}).items()) > _ANNOTATIONS_LIMIT:
        words = f"Too long: may not be more than {_ANNOTATIONS_LIMIT} bytes"
        yield Cause(reason="FieldValueTooLong", message=words, field="metadata.annotations")
    for finalizer in meta.get("finalizers", ()):
        if not _QUALIFIED.fullmatch(finalizer):
            yield _bad("metadata.finalizers", finalizer, "name part must consist of alphanumeric characters")


def _bad(field: str, value: str, words: str) -> Cause:
    return Cause(reason="FieldValueInvalid", message=f"Invalid value: {json.dumps(value)}: {words}", field=field)


def check_same(kind: Kind, before: Object, after: Object) -> None:
    """A patch may not make another object of one."""
    for field in ("name", "namespace"):
        old, new = before["metadata"].get(field), after.get("metadata", {}).get(field)
        if old != new:
            words = f"Invalid value: {json.dumps(new)}: field is immutable"
            cause = Cause(reason="FieldValueInvalid", message=words, field=f"metadata.{field}")
            raise status.invalid(kind, str(old), [cause])


def check_finalizers(kind: Kind, before: Object, after: Object) -> None:
    """Who is being deleted gets no new finalizers."""
    old, new = before["metadata"].get("finalizers", ()), after["metadata"].get("finalizers", ())
    added = [name for name in new if name not in old]
    if "deletionTimestamp" in before["metadata"] and added:
        shown = ", ".join(json.dumps(name) for name in added)
        words = "Forbidden: no new finalizers can be added if the object is being deleted, found new finalizers"
        cause = Cause(reason="FieldValueForbidden", message=f"{words} []string{{{shown}}}", field="metadata.finalizers")
        raise status.invalid(kind, before["metadata"]["name"], [cause])


_IMMUTABLE: Final = {
    "deployments": ("selector",),
    "statefulsets": ("selector", "serviceName", "podManagementPolicy", "volumeClaimTemplates"),
    "jobs": ("selector", "template", "completionMode"),
}


def check_immutable(kind: Kind, before: Object, after: Object) -> None:
    """What may be said once, and not be said otherwise later."""
    causes = []
    for name in () if kind.custom else _IMMUTABLE.get(kind.plural, ()):
        if before["spec"].get(name) != after["spec"].get(name):
            words = f"Invalid value: {json.dumps(after['spec'].get(name))}: field is immutable"
            causes.append(Cause(reason="FieldValueInvalid", message=words, field=f"spec.{name}"))
    if kind.plural in {"secrets", "configmaps"} and before.get("immutable"):
        for name in ("data", "stringData", "binaryData"):
            if before.get(name) != after.get(name):
                words = "Forbidden: field is immutable when `immutable` is set"
                causes.append(Cause(reason="FieldValueForbidden", message=words, field=name))
    if kind.plural == "secrets" and before.get("type") != after.get("type"):
        words = f"Invalid value: {json.dumps(after.get('type'))}: field is immutable"
        causes.append(Cause(reason="FieldValueInvalid", message=words, field="type"))
    if causes:
        raise status.invalid(kind, before["metadata"]["name"], causes)
