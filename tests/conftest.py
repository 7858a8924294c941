import os

import pytest


@pytest.fixture(scope="session")
def policy_files(tmp_path_factory):
    """Folder of a tiny policy, and a file of prompts."""
    from policy_runs import save_tiny, write_posts

    folder = tmp_path_factory.mktemp("policy")
    return save_tiny(folder / "model"), write_posts(folder / "posts.json")


@pytest.fixture
def make(policy_files, tmp_path):
    """Builds a trainer of that policy with a critic that needs no model; flags by keyword."""
    from policy_runs import config, trainer

    def build(critic=None, folder="run", **changes):
        return trainer(config(*policy_files, tmp_path / folder, **changes), critic)

    return build


@pytest.fixture(scope="module")
def browser():
    """A headless Chromium; without one tests are skipped, unless REQUIRE_CHROMIUM is set."""
    from browser import Browser, find_chromium

    path = find_chromium()
    if not path and not os.environ.get("REQUIRE_CHROMIUM"):
        pytest.skip("no Chromium; on Debian: apt-get install --no-install-recommends chromium")
    assert path, "REQUIRE_CHROMIUM is set and there is no Chromium"
    with Browser(path) as started:
        yield started
