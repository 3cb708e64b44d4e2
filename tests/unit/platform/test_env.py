import json
import os
import subprocess
import sys

import pytest

from jobplatform import env


@pytest.fixture
def data(tmp_path, monkeypatch):
    monkeypatch.setenv("JOBPLATFORM_DATA", str(tmp_path))
    (tmp_path / "run").mkdir()
    return tmp_path


def write_stack(data, pid: int) -> None:
    (data / "run" / "stack.json").write_text(json.dumps({"pid": pid, "urls": {"redis": "redis://:pw@127.0.0.1:7/0"}}))


def test_commands_beside_a_running_platform_find_its_servers(data, monkeypatch):
    monkeypatch.delenv("REDIS_URL", raising=False)
    write_stack(data, os.getpid())
    assert env.server_url("REDIS_URL", "redis", "redis://default") == "redis://:pw@127.0.0.1:7/0"


def test_the_environment_wins_over_a_running_platform(data, monkeypatch):
    monkeypatch.setenv("REDIS_URL", "redis://given")
    write_stack(data, os.getpid())
    assert env.server_url("REDIS_URL", "redis", "redis://default") == "redis://given"


@pytest.mark.parametrize("content", ["", "{", "{}", '{"pid": 4194303, "urls": {}}'])
def test_what_a_dead_platform_left_is_not_believed(data, monkeypatch, content):
    monkeypatch.delenv("REDIS_URL", raising=False)
    (data / "run" / "stack.json").write_text(content)
    assert env.server_url("REDIS_URL", "redis", "redis://default") == "redis://default"


@pytest.mark.parametrize(
    ("argv", "chosen"),
    [
        (["manage.py", "up", "--data", "here"], "here"),
        (["manage.py", "doctor", "--json", "--data=here"], "here"),
        (["manage.py", "loaddata", "--data", "here"], None),
        (["manage.py", "up", "--data"], None),
        (["manage.py", "doctor"], None),
    ],
)
def test_the_data_directory_of_up_and_doctor_is_known_before_settings_load(monkeypatch, tmp_path, argv, chosen):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("JOBPLATFORM_DATA", "untouched")
    env.choose_data_dir(argv)
    assert os.environ["JOBPLATFORM_DATA"] == (str(tmp_path / chosen) if chosen else "untouched")


def test_a_data_directory_that_cannot_be_used_is_said_in_one_sentence(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("JOBPLATFORM_DATA", str(tmp_path / "file"))
    monkeypatch.delenv("SECRET_KEY", raising=False)
    with pytest.raises(SystemExit, match=rf"{tmp_path}/file cannot be used: Not a directory\. JOBPLATFORM_DATA .*--data\) names another"):
        env.secret_key()


def test_behind_tls_cookies_travel_on_tls_only(tmp_path):
    script = (
        "import django; django.setup(); from django.conf import settings as s;"
        "print(s.SESSION_COOKIE_SECURE, s.CSRF_COOKIE_SECURE, s.CSRF_TRUSTED_ORIGINS, s.SECURE_HSTS_SECONDS > 0)"
    )
    environment = {**os.environ, "PUBLIC_URL": "https://jobs.example.com/", "JOBPLATFORM_DATA": str(tmp_path)}
    run = subprocess.run([sys.executable, "-c", script], cwd=env.BASE_DIR, env=environment, capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "True True ['https://jobs.example.com'] True"


def test_behind_tls_django_finds_nothing_to_object_to(tmp_path):
    script = (
        "import django; django.setup(); from django.core.management import call_command as call;"
        "call('check', '--deploy', '--fail-level', 'WARNING');"
        "from django.conf import settings as s;"
        "print(s.DEBUG, [app for app in (*s.INSTALLED_APPS, *s.MIDDLEWARE) if 'cors' in app.lower()])"
    )
    environment = {**os.environ, "PUBLIC_URL": "https://jobs.example.com/", "JOBPLATFORM_DATA": str(tmp_path)}
    run = subprocess.run([sys.executable, "-c", script], cwd=env.BASE_DIR, env=environment, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    assert run.stdout.strip().splitlines()[-1] == "False []"
