# Sourced by scripts that make images: no engine and no registry is needed.

# docker_archive REF DIR OUT CMD...: the files of a directory as an image, as `docker save` would write it.
docker_archive() {
  local ref=$1 dir=$2 out=$3 work digest arch=amd64 cmd; shift 3
  work=$(mktemp -d "${TMPDIR:-/tmp}/berm-image.XXXXXX")
  tar -C "$dir" --numeric-owner -cf "$work/layer.tar" .
  digest=$(sha256sum "$work/layer.tar" | cut -d' ' -f1)
  [ "$(uname -m)" != aarch64 ] || arch=arm64
  cmd=$(printf '%s\n' "$@" | jq -R . | jq -sc .)
  echo "{\"architecture\":\"$arch\",\"os\":\"linux\",\"config\":{\"Cmd\":$cmd,\"Env\":[\"PATH=/usr/local/bin:/bin:/usr/bin\"]},\"rootfs\":{\"type\":\"layers\",\"diff_ids\":[\"sha256:$digest\"]}}" >"$work/config.json"
  echo "[{\"Config\":\"config.json\",\"RepoTags\":[\"$ref\"],\"Layers\":[\"layer.tar\"]}]" >"$work/manifest.json"
  tar -C "$work" -cf "$out" manifest.json config.json layer.tar
  rm -rf "$work"
}
