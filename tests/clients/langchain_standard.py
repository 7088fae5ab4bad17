"""LangChain's standard tests of chat models, through `langchain-openai`, against a running server.

    TUTTI_BASE=http://127.0.0.1:8080/v1 TUTTI_MODEL=MODEL TUTTI_OTHER=MODEL \\
        pytest -o asyncio_mode=auto -o asyncio_default_test_loop_scope=session \\
        tests/clients/langchain_standard.py

`TUTTI_OTHER` is a second model of the server. The tests share one event loop because the client
keeps its connections from one to the next.

Skipped by the suite, because the models read and write text: PDF, audio and image inputs, images
and PDF as results of tools. Skipped too: Anthropic's form of messages, which is no part of OpenAI's
API, and the benchmark on recorded answers, of which there are none.

Skipped here for a model of 135M, for it does not do by itself what nothing holds it to:
`test_agent_loop` (call a function if it may, not must) and `test_json_mode` (JSON with the keys that
the question names). Qwen2.5-Coder of 500M does both.
"""

import os

import pytest
from langchain_openai import ChatOpenAI
from langchain_tests.integration_tests import ChatModelIntegrationTests

unguided = pytest.mark.skipif(
    "135m" in os.environ["TUTTI_MODEL"], reason="a model of 135M does not do so by itself"
)


class TestTutti(ChatModelIntegrationTests):
    @property
    def chat_model_class(self):
        return ChatOpenAI

    @property
    def chat_model_params(self):
        # Usage in streams is what an address other than OpenAI's is not asked for by default.
        return {
            "base_url": os.environ["TUTTI_BASE"],
            "api_key": "none",
            "model": os.environ["TUTTI_MODEL"],
            "seed": 1,
            "stream_usage": True,
        }

    @property
    def supports_json_mode(self):
        return True

    @property
    def model_override_value(self):
        return os.environ["TUTTI_OTHER"]

    test_agent_loop = unguided(ChatModelIntegrationTests.test_agent_loop)
    test_json_mode = unguided(ChatModelIntegrationTests.test_json_mode)
