"""Serving a trained agent: recommendations over HTTP, what was shown kept with its propensities, and batch scoring.

`recgym serve RUN` and `recgym recommend RUN` are the commands; here they stand as functions of any `Scorer`. FastAPI,
pydantic and uvicorn (the extra `recgym[serve]`) are imported by `recgym.serving.app` and what it needs alone.
"""
