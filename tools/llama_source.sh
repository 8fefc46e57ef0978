# Sourced, for llama.cpp's sources of the installed xllamacpp wheel:
#   llama_directory NAME [DIRECTORY]   sets $directory: the one given, or else one of that name in the cache
#   llama_source                       sets $source, in $work, which is gone when we are
python=$("${PYTHON:-python3}" -c "import sys; print(sys.executable)")
version=$("$python" -c 'from importlib.metadata import version; print(version("xllamacpp"))')

llama_directory() {
    directory=${2:-${XDG_CACHE_HOME:-$HOME/.cache}/halotui/$1}
    mkdir -p "$directory"
    directory=$(cd "$directory" && pwd)
}

# The archive stays beside $directory, for all who build there
llama_source() {
    work=$(mktemp -d)
    trap 'rm -rf "$work"' EXIT
    archive=${directory%/*}/xllamacpp-$version.tar.gz
    if [ ! -e "$archive" ]; then
        "$python" -m pip download --quiet --no-deps --no-binary xllamacpp --dest "$work" "xllamacpp==$version"
        { cp "$work"/xllamacpp-*.tar.gz "$archive.$$" && mv "$archive.$$" "$archive"; } 2>/dev/null ||
            archive=$(echo "$work"/xllamacpp-*.tar.gz)
    fi
    tar -xzf "$archive" -C "$work" --strip-components 1
    source=$work/thirdparty/llama.cpp
}
