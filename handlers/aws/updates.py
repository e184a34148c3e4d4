"""Conditional updates: an expression is put together from named parts, each with its values."""

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any, Self

from handlers.aws.items import wire
from handlers.delivery.message import OPEN, UNDELIVERED


@dataclass(slots=True)
class Update:
    """One UpdateItem request in the making. Attribute names are always aliased (reserved words)."""

    sets: list[str] = field(default_factory=list)
    removes: list[str] = field(default_factory=list)
    conditions: list[str] = field(default_factory=list)
    names: dict[str, str] = field(default_factory=dict)
    values: dict[str, Any] = field(default_factory=dict)

    def name(self, path: str) -> str:
        """The alias of an attribute, or of a dotted path below one."""
        aliases = []
        for part in path.split("."):
            # A digit must not follow the sign: slots get a letter.
            alias = f"#a{part}" if part.isdigit() else f"#{part}"
            self.names[alias] = part
            aliases.append(alias)
        return ".".join(aliases)

    def value(self, value: Any) -> str:
        """The placeholder of a value."""
        placeholder = f":v{len(self.values)}"
        self.values[placeholder] = wire(value)
        return placeholder

    def set(self, path: str, value: Any) -> Self:
        """Set an attribute, or remove it when the value is None."""
        if value is None:
            return self.remove(path)
        self.sets.append(f"{self.name(path)} = {self.value(value)}")
        return self

    def set_expression(self, path: str, expression: str) -> Self:
        """Set an attribute to an expression made with `name` and `value`."""
        self.sets.append(f"{self.name(path)} = {expression}")
        return self

    def remove(self, *paths: str) -> Self:
        """Remove attributes."""
        self.removes.extend(self.name(path) for path in paths)
        return self

    def when(self, path: str, value: Any, operator: str = "=") -> Self:
        """Go through only if the attribute compares so; None means that it must not exist."""
        name = self.name(path)
        condition = f"attribute_not_exists({name})" if value is None else f"{name} {operator} {self.value(value)}"
        self.conditions.append(condition)
        return self

    def when_within(self, path: str, value: Any) -> Self:
        """Go through only if the attribute, should there be one, is at least so much."""
        name = self.name(path)
        self.conditions.append(f"(attribute_not_exists({name}) OR {name} >= {self.value(value)})")
        return self

    def when_below(self, path: str, value: Any) -> Self:
        """Go through only if the attribute, should there be one, is less."""
        name = self.name(path)
        self.conditions.append(f"(attribute_not_exists({name}) OR {name} < {self.value(value)})")
        return self

    def when_open(self) -> Self:
        """Go through only if the message may still be attempted."""
        return self._when_status(OPEN)

    def when_undelivered(self) -> Self:
        """Go through only if the message has ended, and not by an ACK."""
        return self._when_status(UNDELIVERED)

    def _when_status(self, statuses: Collection[str]) -> Self:
        options = ", ".join(self.value(str(status)) for status in sorted(statuses))
        self.conditions.append(f"{self.name('status')} IN ({options})")
        return self

    def request(self) -> dict[str, Any]:
        """The arguments of UpdateItem, but for table and key."""
        clauses = [f"SET {', '.join(self.sets)}"] if self.sets else []
        clauses += [f"REMOVE {', '.join(self.removes)}"] if self.removes else []
        request: dict[str, Any] = {
            "UpdateExpression": " ".join(clauses),
            "ConditionExpression": " AND ".join(self.conditions),
            "ExpressionAttributeNames": self.names,
        }
        if self.values:
            request["ExpressionAttributeValues"] = self.values
        return request
