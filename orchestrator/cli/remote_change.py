"""What `dagctl apply` and `delete` do, and in whose name."""

from __future__ import annotations

import asyncio
import getpass
from collections.abc import Sequence
from typing import TYPE_CHECKING

from dagengine import errors
from orchestrator import errors as orchestrator_errors
from orchestrator.cli import documents, printing
from orchestrator.cli.options import Format

if TYPE_CHECKING:
    from orchestrator.client import Client
    from orchestrator.verbs import Registration

__all__ = ["apply", "author", "delete"]


def apply(client: Client, names: Sequence[str], form: Format) -> None:
    """Register every document, once all of them are known to be right."""
    loaded = _load_all(names)
    registrations = asyncio.run(_apply(client, loaded))
    if form is not Format.TABLE:
        printing.structured(registrations, form)
        return
    for registration in registrations:
        what = "registered" if registration.created else "unchanged"
        printing.write(f"{registration.id}@{registration.version} {what}")


def _load_all(names: Sequence[str]) -> list[documents.Loaded]:
    loaded: list[documents.Loaded] = []
    wrong: list[errors.SpecError] = []
    for name in documents.expand(names):
        try:
            loaded.append(documents.load(name, registrable=True))
        except errors.SpecError as exc:
            wrong.append(exc)
    if wrong:
        raise errors.SpecError("\n".join([*map(str, wrong), "nothing was registered"]))
    return loaded


async def _apply(client: Client, loaded: Sequence[documents.Loaded]) -> list[Registration]:
    async with client:
        await _check_versions(client, loaded)
        done: list[Registration] = []
        for item in loaded:
            try:
                done.append(await client.apply(item.document))
            except (errors.SpecError, orchestrator_errors.OrchestratorError) as exc:
                created = ", ".join(f"{one.id}@{one.version}" for one in done if one.created)
                outcome = f"registered before it: {created}" if created else "nothing was registered"
                raise type(exc)(f"{item.name}: {exc}; {outcome}") from exc
        return done


async def _check_versions(client: Client, loaded: Sequence[documents.Loaded]) -> None:
    """Raise VersionConflict when one of the versions is known with another content, there or among the documents."""
    seen: dict[str, documents.Loaded] = {}
    for item in loaded:
        reference, digest = item.document.reference, item.document.digest
        if seen.setdefault(reference, item).document.digest != digest:
            raise orchestrator_errors.VersionConflict(
                f"{item.name}: {reference} is in {seen[reference].name} too, with another content; "
                "nothing was registered"
            )
        try:
            known = await client.workflow(reference)
        except orchestrator_errors.NotFound:
            continue
        if known.digest != digest:
            raise orchestrator_errors.VersionConflict(
                f"{item.name}: {reference} is registered already with another content: give this one a higher version; "
                "nothing was registered"
            )


def delete(client: Client, reference: str, *, force: bool, form: Format) -> None:
    """Remove a workflow, or the one version that `reference` names."""
    workflow, _, version = reference.partition("@")

    async def send() -> int:
        async with client:
            return await client.delete_workflow(workflow, version=version or None, force=force)

    count = asyncio.run(send())
    if form is Format.TABLE:
        printing.write(f"{reference} deleted ({'1 version' if count == 1 else f'{count} versions'})")
    else:
        printing.structured({"id": workflow, "version": version or None, "deleted": count}, form)


def author() -> str:
    """Who asks: the name of the user, empty where there is none."""
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return ""
