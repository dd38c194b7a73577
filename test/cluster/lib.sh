# Sourced by the scripts here: what is for a node that has no way out, images above all.

# build_init DIR: the root of the image of Berm's init, from this source.
build_init() {
  mkdir -p "$1"
  (cd "$root" && CGO_ENABLED=0 go build -trimpath -ldflags "-s -w" -o "$1/berm-shim" ./cmd/berm-shim)
  chmod 0711 "$1/berm-shim" && chown 65532:65532 "$1/berm-shim" # As berm kube-image has it.
}

# gateway_api: print the folder of the resources that the Gateway API is made of.
gateway_api() {
  local module=sigs.k8s.io/gateway-api
  (cd "$root/test/cluster/gateway-api" && go mod download $module && echo "$(go list -m -f '{{.Dir}}' $module)/config/crd/standard")
}

# build_tools DIR: the root of an image with the few programs that tests run.
build_tools() {
  local tool library
  mkdir -p "$1/bin" "$1/tmp" "$1/workspace" "$1/usr" "$1/etc"
  cp "$(command -v busybox)" "$1/bin/busybox"
  for tool in sh true false echo cat sleep pwd head stty env mkdir rm kill ls dd; do ln -s busybox "$1/bin/$tool"; done
  chmod 1777 "$1/tmp"
  # Debian's busybox lacks a tool that the contract needs: the machine's own, with the libraries that it names.
  cp "$(command -v printenv)" "$1/bin/printenv"
  for library in $(ldd "$(command -v printenv)" | grep -oE '/[^ ]+'); do install -D "$library" "$1$library"; done
}
