"""`/v1/models`."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.concurrency import run_in_threadpool

from service.auth import Reader
from service.context import Context
from service.models.schemas import ModelListSchema
from service.models.service import list_models
from service.problems import responses

router = APIRouter(prefix="/v1/models", tags=["models"])


@router.get("", name="list_models", summary="List models", responses=responses())
async def get_models(context: Context, _: Reader) -> ModelListSchema:
    """The models that jobs may name, the default first."""
    return ModelListSchema(data=await run_in_threadpool(list_models, context))
