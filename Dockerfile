# syntax=docker/dockerfile:1
# One image with both programs, /agent and /controller, and nothing else: no shell, no C library, no distribution.
#
#   docker buildx build --platform linux/amd64,linux/arm64 --build-arg VERSION=$(git describe --tags --always) -t … .
#
# `make image` makes the same contents without docker, and the same bytes each time.
FROM --platform=$BUILDPLATFORM golang:1.26 AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN --mount=type=cache,target=/go/pkg/mod go mod download
COPY . .
ARG TARGETOS TARGETARCH VERSION=unknown
RUN --mount=type=cache,target=/go/pkg/mod --mount=type=cache,target=/root/.cache/go-build \
    mkdir /image && cp LICENSE /image/ && \
    GOOS=$TARGETOS GOARCH=$TARGETARCH GOAMD64=v1 GOARM64=v8.0 CGO_ENABLED=0 \
    go build -trimpath -buildvcs=false -ldflags "-s -w -X main.version=$VERSION" -o /image/ ./cmd/...

FROM scratch
ARG VERSION=unknown REVISION=unknown
LABEL org.opencontainers.image.title="containerhook" \
      org.opencontainers.image.description="Every container on every node as a Kubernetes object" \
      org.opencontainers.image.version="$VERSION" \
      org.opencontainers.image.revision="$REVISION" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.source="https://github.com/containerhook/containerhook"
COPY --from=build /image/ /
# The controller's. The agent must be root, and its pod says so.
USER 65532:65532
WORKDIR /
ENTRYPOINT ["/agent"]
