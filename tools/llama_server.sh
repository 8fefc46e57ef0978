#!/bin/sh
# Build a real llama-server, router mode and all, and a real rpc-server: their few source files out of
# xllamacpp's source archive, on the llama.cpp of the installed wheel. Half a minute with g++, once.
# For tests that are given HALOTUI_LLAMA_SERVER=DIRECTORY/llama-server; rpc-server is beside it.
#   tools/llama_server.sh [DIRECTORY]
set -eu
. "$(dirname "$0")/llama_source.sh"
llama_directory llama-server "${1:-}"
wheel=$("$python" -c 'from importlib.util import find_spec; print(find_spec("xllamacpp.xllamacpp").origin)')
built=$directory/.built
if [ -x "$directory/llama-server" ] && [ "$(cat "$built" 2>/dev/null)" = "$version $wheel" ] &&
    [ "$built" -nt "$wheel" ] && [ "$built" -nt "$0" ]; then
    echo "$directory/llama-server"
    exit
fi
rm -f "$built"
llama_source
cd "$source"
mkdir "$work/objects"

# A program has no Python that the wheel could find: it never asks for any of it, these are just names
nm -D --undefined-only "$wheel" | awk '
    BEGIN { print ".data" }
    $NF ~ /^_?Py/ { print ".globl " $NF "\n" $NF ":" }
    END { print ".quad 0\n.section .note.GNU-stack,\"\",%progbits" }' >"$work/python.s"
# all else is bound here and unseen by the wheel, which has a libstdc++ of another age
echo '{ global: Py*; _Py*; local: *; };' >"$work/names"
sed '/@ASSET/d; s/@N_ASSETS@/0/; s/@USE_GZIP@/false/' tools/ui/ui.cpp.in >"$work/ui.cpp" # no web page
sed '/#cmakedefine/d; s/@N_ASSETS@/0/' tools/ui/ui.h.in >"$work/ui.h"
cat >"$work/start.cpp" <<CPP
#include "ggml-backend.h"
#include "ggml-rpc.h"
extern int LLAMA_BUILD_NUMBER;
__attribute__((constructor)) static void start() {
    LLAMA_BUILD_NUMBER = ${version##*.};  // built without git, it knows none
    ggml_backend_register(ggml_backend_rpc_reg());  // not in the wheel
}
CPP
nm -D --defined-only "$wheel" | grep -q 'common_.*__cxx11' && abi=1 || abi=0 # which std::string it speaks
cat >"$work/compile" <<END
${CXX:-g++} -std=c++17 -O0 -DNDEBUG -DLLAMA_SUBPROCESS -D_GLIBCXX_USE_CXX11_ABI=$abi -fPIC -w \
    -DCPPHTTPLIB_FORM_URL_ENCODED_PAYLOAD_MAX_LENGTH=1048576 -DCPPHTTPLIB_LISTEN_BACKLOG=512 \
    -DCPPHTTPLIB_REQUEST_URI_MAX_LENGTH=32768 -DCPPHTTPLIB_TCP_NODELAY=1 \
    -I include -I ggml/include -I ggml/src -I common -I vendor -I tools/server -I tools/mtmd -I . -I "$work" \
    -c "\$1" -o "$work/objects/\$(basename "\$1" .cpp).o"
END
# the longest first
printf '%s\n' vendor/cpp-httplib/httplib.cpp tools/server/server-models.cpp tools/server/server-http.cpp \
    tools/server/server.cpp ggml/src/ggml-rpc/ggml-rpc.cpp tools/rpc/rpc-server.cpp \
    ggml/src/ggml-rpc/transport.cpp tools/server/main.cpp "$work/ui.cpp" "$work/start.cpp" |
    xargs -P "$(getconf _NPROCESSORS_ONLN)" -n 1 sh "$work/compile"

cd "$work/objects"
link() { # NAME OBJECT...; whoever runs the old one keeps it
    program=$1
    shift
    "${CXX:-g++}" -o "$directory/.$program" "$@" start.o ggml-rpc.o transport.o "$work/python.s" "$wheel" \
        -Wl,--version-script="$work/names" -Wl,-s -pthread
    mv -f "$directory/.$program" "$directory/$program"
}
link rpc-server rpc-server.o
ln -f "$directory/rpc-server" "$directory/ggml-rpc-server" # as upstream names it by now
link llama-server main.o server.o server-models.o server-http.o httplib.o ui.o
echo "$version $wheel" >"$built"
echo "$directory/llama-server"
