"""Who may do what: tokens, users, and RBAC as the Role objects of the server say it."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import kubernetes_status as status
from kubernetes_kinds import Kind
from kubernetes_storage import Storage

Object = dict[str, Any]
_RBAC = "rbac.authorization.k8s.io"


@dataclass(frozen=True, slots=True)
class User:
    """Who a token is of."""

    name: str
    groups: frozenset[str] = frozenset({"system:authenticated"})

    @classmethod
    def service_account(cls, namespace: str, name: str) -> User:
        groups = {"system:authenticated", "system:serviceaccounts", f"system:serviceaccounts:{namespace}"}
        return cls(f"system:serviceaccount:{namespace}:{name}", frozenset(groups))

    @property
    def account(self) -> tuple[str, str]:
        """Namespace and name of a service account; empty for people."""
        _, _, rest = self.name.partition("system:serviceaccount:")
        namespace, _, name = rest.partition(":")
        return namespace, name


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What somebody wants to do. `resource` may have a subresource: `deployments/scale`."""

    verb: str
    group: str
    resource: str
    namespace: str = ""
    name: str = ""


class Access:
    """The tokens that are good, and the rules. Nothing is forbidden until `enforced`."""

    def __init__(self, storage: Storage) -> None:
        self.enforced = False
        self._storage = storage
        self._tokens: dict[str, User] = {}

    def token(self, user: User) -> str:
        """A new token for a user."""
        token = secrets.token_urlsafe(24)
        self._tokens[token] = user
        return token

    def revoke(self, user: User) -> None:
        """End every token of a user."""
        self._tokens = {token: owner for token, owner in self._tokens.items() if owner != user}

    def user(self, authorization: str) -> User:
        """Who an `Authorization` header is of. Refusal 401 for anybody else."""
        scheme, _, token = authorization.partition(" ")
        found = self._tokens.get(token) if scheme.lower() == "bearer" else None
        if found is None:
            raise status.unauthorized()
        return found

    def check(self, user: User, wish: Wish, kind: Kind) -> None:
        """Refusal 403 when rules are enforced and none lets the user."""
        if self.allows(user, wish):
            return
        where = f'in the namespace "{wish.namespace}"' if wish.namespace else "at the cluster scope"
        why = f'User "{user.name}" cannot {wish.verb} resource "{wish.resource}" in API group "{wish.group}" {where}'
        raise status.forbidden(kind, wish.name, why)

    def allows(self, user: User, wish: Wish) -> bool:
        if not self.enforced or "system:masters" in user.groups or wish.resource == "selfsubjectaccessreviews":
            return True  # the last as the role `system:basic-user` has it
        return any(_covers(rule, wish) for rule in self._rules(user, wish.namespace))

    def _rules(self, user: User, namespace: str) -> Iterator[Object]:
        """The rules that hold for a user in a namespace."""
        for plural, where in (("clusterrolebindings", ""), ("rolebindings", namespace)):
            if plural == "rolebindings" and not namespace:
                continue
            for key, binding in self._storage.select(_RBAC, plural, where):
                if any(_is(subject, user, key.namespace) for subject in binding.get("subjects") or ()):
                    yield from self._role(binding["roleRef"], key.namespace)

    def _role(self, reference: Object, namespace: str) -> Iterator[Object]:
        plural, where = ("clusterroles", "") if reference["kind"] == "ClusterRole" else ("roles", namespace)
        for key, role in self._storage.select(_RBAC, plural, where):
            if key.name == reference["name"]:
                yield from role.get("rules") or ()


def _is(subject: Object, user: User, namespace: str) -> bool:
    match subject["kind"]:
        case "ServiceAccount":
            return user.account == (subject.get("namespace") or namespace, subject["name"])
        case "Group":
            return subject["name"] in user.groups
        case _:
            return bool(subject["name"] == user.name)


def _covers(rule: Object, wish: Wish) -> bool:
    def has(name: str, *wanted: str) -> bool:
        return not {"*", *wanted}.isdisjoint(rule.get(name) or ())

    _, slash, subresource = wish.resource.partition("/")
    anything = (f"*/{subresource}",) if slash else ()
    names = rule.get("resourceNames")
    return (
        has("verbs", wish.verb)
        and has("apiGroups", wish.group)
        and has("resources", wish.resource, *anything)
        and (not names or wish.name in names)
    )
