"""timm without the client of its hub: not imported for maps, loaded by a download, its errors caught as before."""

import subprocess
import sys


def printed(code, root, **environment):
    command = [sys.executable, "-c", code]
    return subprocess.run(command, cwd=root, env=environment, check=True, capture_output=True, text=True).stdout.split()


def test_the_client_is_loaded_by_a_download_only(root, tmp_path):
    code = (
        "import sys\n"
        "from net.libraries import timm\n"
        "print('huggingface_hub' in sys.modules)\n"
        "try:\n"
        "    timm.create_model('resnet10t', pretrained=True)\n"
        "except Exception as error:\n"
        "    print(type(error).__module__.split('.')[0])\n"
        "import huggingface_hub.utils, timm.models._hub as hub\n"
        "print(hub.EntryNotFoundError is huggingface_hub.utils.EntryNotFoundError)\n"
    )
    assert printed(code, root, HF_HUB_OFFLINE="1", HF_HOME=str(tmp_path)) == ["False", "huggingface_hub", "True"]


def test_what_imports_the_client_later_has_the_client(root):
    code = "import net.libraries, huggingface_hub; print(huggingface_hub.hf_hub_download.__module__.split('.')[0])"
    assert printed(code, root) == ["huggingface_hub"]
