"""A web service that looks vans up: one client for the whole process, one route, every outcome an HTTP status.

With a key in ONEAUTO_API_KEY: ``uvicorn service:app``. Without one, simulated: ``python service.py``.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, HTTPException, Request

from oneauto_async import (
    Failed,
    Found,
    InDoubt,
    InvalidVehicleIdError,
    NoData,
    NotSent,
    OneAutoClient,
    RateLimit,
    RetryPolicy,
)

VISITORS_WAIT = 20.0  # seconds


def new_client() -> OneAutoClient:
    # What your key allows, and how patiently an id is pursued: the defaults are made for bulk runs.
    return OneAutoClient(rate_limit=RateLimit(rate=10, burst=5), retry=RetryPolicy(attempts=3, total=20))


def make_app(client_factory: Callable[[], OneAutoClient] = new_client) -> FastAPI:
    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with client_factory() as app.state.oneauto:  # one client per process, closed with it
            yield

    app = FastAPI(lifespan=lifespan)

    @app.get("/vans/{evdb_vehicle_id}/charging")
    async def charging(evdb_vehicle_id: str, request: Request) -> dict[str, Any]:
        client: OneAutoClient = request.app.state.oneauto
        try:
            async with asyncio.timeout(VISITORS_WAIT):
                outcome = await client.lookup(evdb_vehicle_id)
        except InvalidVehicleIdError as invalid:
            raise HTTPException(422, str(invalid)) from invalid
        except TimeoutError as late:  # a request under way is seen through, and whoever asks again has its answer
            raise HTTPException(503, "not answered yet; ask again") from late
        match outcome:
            case Found(value=record, partial=partial):
                return record.to_dict() | {"partial": partial}
            case NoData():
                raise HTTPException(404, "the vendor has no data for this vehicle")
            case Failed(error=error) | InDoubt(error=error) | NotSent(error=error):
                # 503 invites another try, so it is only for what that may help and cannot by itself charge twice.
                raise HTTPException(503 if error.retryable else 502, str(error))

    return app


app = make_app()

if __name__ == "__main__":
    import uvicorn

    uvicorn.run(make_app(OneAutoClient.simulated))
