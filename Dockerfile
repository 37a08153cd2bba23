# The pipeline with everything it needs, from the same lock as .venv.
#   docker build -t ptacl .
#   docker run --rm --gpus all -v "$PWD:/data" ptacl --cores 8 --configfile /data/my_study.yaml
# Results lie below the folder that is mounted at /data.
FROM python:3.11-slim-bookworm
WORKDIR /opt/ptacl
COPY requirements.lock .
RUN python -m pip install --no-cache-dir -r requirements.lock
COPY . .
RUN python -m pip install --no-cache-dir --no-deps --no-build-isolation -e .
WORKDIR /data
ENTRYPOINT ["snakemake", "--snakefile", "/opt/ptacl/Snakefile"]
