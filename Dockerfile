# A trained run as a service, on the CPU and not as root:
#   docker build -t recgym .
#   docker run -p 8000:8000 -v "$PWD/runs/mine:/model:ro" recgym
#   docker run -p 8000:8000 -v "$PWD/runs/mine:/model:ro" -v served:/served recgym /model --host 0.0.0.0 --log /served/log --explore 0.3
FROM python:3.11-slim
RUN useradd --create-home --uid 10001 recgym && install -d -o recgym /served
WORKDIR /src
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY recgym recgym
COPY agents agents
RUN pip install --no-cache-dir --extra-index-url https://download.pytorch.org/whl/cpu -c constraints.txt ".[serve]"
WORKDIR /home/recgym
USER recgym
ENV OMP_NUM_THREADS=2 PYTHONUNBUFFERED=1
EXPOSE 8000
HEALTHCHECK --start-period=30s CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8000/health', timeout=3)"]
ENTRYPOINT ["recgym", "serve"]
CMD ["/model", "--host", "0.0.0.0"]
