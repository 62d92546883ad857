"""An application whose entries are rows of django-celery-beat; `python -m beatdjango create|rows` sees to these."""

from __future__ import annotations

import json
import os
import sys

import django
from celery import Celery
from django.conf import settings

settings.configure(
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": os.environ["BEAT_DATABASE"]}},
    INSTALLED_APPS=["django_celery_beat"],
    USE_TZ=True,
    DEFAULT_AUTO_FIELD="django.db.models.AutoField",
)
django.setup()

app = Celery("beatcrew", broker=os.environ["BEAT_BROKER"])
app.conf.update(json.loads(os.environ["BEAT_CONF"]), task_default_queue=os.environ["BEAT_QUEUE"])


def create(*names: str) -> None:
    """Rows that fire each second; "once" only once, "off" never."""
    from django.core.management import call_command
    from django_celery_beat.models import IntervalSchedule, PeriodicTask

    call_command("migrate", verbosity=0)
    second, _ = IntervalSchedule.objects.get_or_create(every=1, period=IntervalSchedule.SECONDS)
    for name in names:
        row = {"interval": second, "task": "t", "one_off": name == "once", "enabled": name != "off"}
        PeriodicTask.objects.create(name=name, **row)


def rows() -> dict[str, dict[str, object]]:
    from django_celery_beat.models import PeriodicTask

    found = PeriodicTask.objects.all()
    return {row.name: {"enabled": row.enabled, "count": row.total_run_count} for row in found}


if __name__ == "__main__":
    verb, *names = sys.argv[1:]
    print(json.dumps(create(*names) if verb == "create" else rows()))
