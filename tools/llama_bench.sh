#!/bin/sh
# Build a real llama-bench: its one source file out of xllamacpp's source archive, on the llama.cpp of the
# installed wheel. Half a minute with g++. For tests that are given HALOTUI_LLAMA_BENCH=DIRECTORY/llama-bench.
#   tools/llama_bench.sh [DIRECTORY]
set -eu
. "$(dirname "$0")/llama_source.sh"
llama_directory llama-bench "${1:-}"
llama_source
cat >"$work/exported.cpp" <<'CPP'
#include "arg.h"
// what the wheel keeps to itself, as common/arg.cpp has it
namespace common_arg_utils {
bool is_truthy(const std::string & v) { return v == "on" || v == "enabled" || v == "true" || v == "1"; }
bool is_falsey(const std::string & v) { return v == "off" || v == "disabled" || v == "false" || v == "0"; }
bool is_autoy(const std::string & v) { return v == "auto" || v == "-1"; }
}
int llama_bench(int argc, char ** argv);
extern "C" __attribute__((visibility("default"))) int run(int argc, char ** argv) { return llama_bench(argc, argv); }
CPP
# all else hidden and bound here: the wheel's C++ library is another one
"${CXX:-g++}" -std=c++17 -O2 -DNDEBUG -shared -fPIC -fvisibility=hidden -fno-gnu-unique \
    -ffunction-sections -fdata-sections -Wl,--gc-sections -Wl,-Bsymbolic \
    -I "$source/include" -I "$source/ggml/include" -I "$source/common" -I "$source/vendor" \
    "$source/tools/llama-bench/llama-bench.cpp" "$source/common/common.cpp" "$work/exported.cpp" \
    -o "$directory/bench.so"
cat >"$directory/llama-bench" <<PYTHON
#!$python
import ctypes, os, signal, sys
from xllamacpp import xllamacpp

signal.signal(signal.SIGINT, signal.SIG_DFL)
core = ctypes.CDLL(xllamacpp.__file__, ctypes.RTLD_GLOBAL)
ctypes.c_int.in_dll(core, "LLAMA_BUILD_NUMBER").value = ${version##*.}  # built without git, it knows none
ctypes.CDLL(None).prctl(15, b"llama-bench")
words = [os.fsencode(word) for word in sys.argv]
code = ctypes.CDLL("$directory/bench.so").run(len(words), (ctypes.c_char_p * (len(words) + 1))(*words))
ctypes.CDLL(None).fflush(None)
os._exit(code)
PYTHON
chmod +x "$directory/llama-bench"
echo "$directory/llama-bench"
