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
