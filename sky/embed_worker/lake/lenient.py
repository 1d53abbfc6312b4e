"""Models of what others may have damaged: a field that does not fit is unknown, never an error."""

from typing import Annotated, Any

from pydantic import (
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    ValidatorFunctionWrapHandler,
    field_validator,
)

CHARACTERS = 300


class Lenient(BaseModel):
    """Its optional fields take their default where the value is of another kind, or beyond all reason."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    @field_validator("*", mode="wrap")
    @classmethod
    def _unknown(cls, value: Any, accept: ValidatorFunctionWrapHandler, info: ValidationInfo) -> Any:
        try:
            return accept(value)
        except ValidationError:
            field = cls.model_fields[str(info.field_name)]
            if field.is_required():
                raise
            return field.get_default(call_default_factory=True)


def _short(value: Any) -> Any:
    """Numbers are taken as texts: SkyPilot's job ids are some."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        value = str(value)
    return value[:CHARACTERS] if isinstance(value, str) else value


Text = Annotated[str, BeforeValidator(_short), Field(min_length=1)]
Number = Annotated[float, Field(strict=True, ge=0, lt=1e18)]
"""Finite, from 0 on."""
Count = Annotated[int, Field(strict=True, ge=0, lt=10**18)]
Price = Annotated[float, Field(strict=True, gt=0, lt=1e18)]
"""0 is what systems write that do not know."""
Moment = AwareDatetime
