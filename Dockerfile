# FrozenSeg on CPUs. From the root of the repository:
#   docker build -t frozenseg .
#   docker run --rm --user "$(id -u)" -v "$PWD:/data" frozenseg segment photo.jpg --words "cat; sofa" --output out
# Downloaded towers are in /home/user/.cache: add -v frozenseg-cache:/home/user/.cache to keep them.
FROM python:3.12-slim AS build
RUN apt-get update && apt-get install -y --no-install-recommends g++ && rm -rf /var/lib/apt/lists/*
RUN python -m venv /opt/venv
ENV PATH=/opt/venv/bin:$PATH
WORKDIR /src
COPY requirements.txt .
RUN pip install --no-cache-dir -r requirements.txt
COPY . .
RUN pip install --no-cache-dir --no-build-isolation --no-deps .

FROM python:3.12-slim
RUN useradd --create-home user && chmod 755 /home/user && mkdir -m 777 /data /home/user/.cache
COPY --from=build /opt/venv /opt/venv
ENV PATH=/opt/venv/bin:$PATH HOME=/home/user LOGNAME=user
USER user
WORKDIR /data
ENTRYPOINT ["frozenseg"]
CMD ["--help"]
