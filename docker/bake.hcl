# The images of a release: docker buildx bake -f docker/bake.hcl [GROUP or TARGET ...] [--push]
#
#   api     HTTP alone              worker       models, CPU        all  the whole service in one container, CPU
#                                   worker-cuda  models, CUDA
#
# Each has an SBOM and provenance attached, and labels that say what it was made of.

# Where images go, with the folder.
variable "REGISTRY" {
  default = "ghcr.io/dovetail-vsr"
}

# Of the release, without a v.
variable "VERSION" {
  default = "dev"
}

# Of the source.
variable "REVISION" {
  default = "unknown"
}

# Where the source is.
variable "SOURCE" {
  default = ""
}

# Index with torch for the CPU.
variable "TORCH_CPU_INDEX_URL" {
  default = "https://download.pytorch.org/whl/cpu"
}

# Whether SBOM and provenance are attached; an image for Docker itself cannot carry them.
variable "ATTESTED" {
  default = true
}

# "1.4.2" is also 1.4 and the latest; a version with a hyphen is only itself.
function "tags" {
  params = [image, suffix]
  result = concat(
    ["${REGISTRY}/${image}:${VERSION}${suffix}"],
    length(regexall("^[0-9]+\\.[0-9]+\\.[0-9]+$", VERSION)) == 0 ? [] : [
      "${REGISTRY}/${image}:${join(".", slice(split(".", VERSION), 0, 2))}${suffix}",
      "${REGISTRY}/${image}:${suffix == "" ? "latest" : trimprefix(suffix, "-")}",
    ],
  )
}

group "default" {
  targets = ["api", "worker", "worker-cuda", "all"]
}

group "cpu" {
  targets = ["api", "worker", "all"]
}

target "_release" {
  context    = "."
  dockerfile = "docker/Dockerfile"
  args       = { VERSION = VERSION, REVISION = REVISION }
  labels     = { "org.opencontainers.image.source" = SOURCE }
  attest     = ATTESTED ? ["type=sbom", "type=provenance,mode=max"] : []
}

# torch and all that the API needs have wheels for both.
target "_cpu" {
  inherits  = ["_release"]
  platforms = ["linux/amd64", "linux/arm64"]
  args      = { TORCH_INDEX_URL = TORCH_CPU_INDEX_URL }
}

target "api" {
  inherits = ["_cpu"]
  target   = "api"
  tags     = tags("dovetail-api", "")
}

target "worker" {
  inherits = ["_cpu"]
  target   = "worker"
  tags     = tags("dovetail-worker", "")
}

target "all" {
  inherits = ["_cpu"]
  target   = "all"
  tags     = tags("dovetail", "")
}

# xformers and the GPUs that this is for: amd64 only.
target "worker-cuda" {
  inherits  = ["_release"]
  target    = "worker"
  platforms = ["linux/amd64"]
  args      = { EXTRAS = "cuda quantization" }
  tags      = tags("dovetail-worker", "-cuda")
}
