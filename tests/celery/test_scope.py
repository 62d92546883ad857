"""Which calls of which tasks, in which queues, share their keys."""

from __future__ import annotations

import pytest
from celerytasks import entry, same, task

from locksmith.celery import install
from locksmith.celery.queues import queue_of_delivery
from locksmith.errors import ConfigurationError

pytestmark = pytest.mark.native_threads


def test_by_default_tasks_are_apart_and_queues_are_not(app):
    one, two = task(app, same, name="one"), task(app, same, name="two")
    first = one.delay(1)
    assert one.apply_async([1], queue="slow").id == first.id
    assert two.delay(1).id != first.id


def test_a_scope_is_shared_by_tasks(app):
    one = task(app, same, name="one", singleton_scope="sums")
    two = task(app, same, name="two", singleton_scope="sums")
    three = task(app, same, name="three")
    assert one.delay(1).id == two.apply_async([1], queue="slow").id != three.delay(1).id
    assert two.key_for(1).startswith("sums:v1:")


@pytest.mark.parametrize("scope", ["{task}@{queue}", "sums:{queue}"])
def test_a_scope_of_each_queue(app, scope):
    one = task(app, same, name="one", singleton_scope=scope)
    two = task(app, same, name="two", singleton_scope=scope)
    first, slow = one.delay(1), one.apply_async([1], queue="slow")
    assert first.id != slow.id
    assert one.delay(1).id == one.apply_async([1], queue=app.conf.task_default_queue).id == first.id
    assert one.apply_async([1], queue="slow").id == app.send_task("one", [1], queue="slow").id == slow.id
    assert (two.apply_async([1], queue="slow").id == slow.id) is ("{task}" not in scope)
    head = scope.format(task="one", queue=app.conf.task_default_queue)
    assert one.key_for(1).startswith(f"{head}:v1:")
    assert entry(app, one.key_for(1)).id == first.id


def test_the_queue_is_the_one_that_celery_routes_to(app):
    app.conf.task_routes = {"routed": {"queue": "by-route"}, "own": {"queue": "by-task"}}
    routed = task(app, same, name="routed", singleton_scope="{queue}")
    own = task(app, same, name="own", singleton_scope="{queue}")
    assert routed.key_for(1).startswith("by-route:v1:")
    assert own.key_for(1).startswith("by-task:v1:")
    assert routed.delay(1).id == routed.apply_async([1], queue="by-route").id
    assert own.apply_async([1], queue="by-route").id == routed.delay(1).id
    assert own.delay(1).id != routed.delay(1).id


def test_of_a_message_without_a_key_it_is_the_queue_that_it_came_from(app):
    install(app)
    assert queue_of_delivery(app, {"exchange": "", "routing_key": "slow"}) == "slow"
    app.conf.task_queues = None
    app.amqp.queues.add("bound", exchange="mail", routing_key="mail.in")
    assert queue_of_delivery(app, {"exchange": "mail", "routing_key": "mail.in"}) == "bound"
    assert queue_of_delivery(app, None) == app.conf.task_default_queue


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"singleton_scope": ""}, "singleton_scope"),
        ({"singleton_scope": "s", "singleton_key": "{a}"}, "singleton_scope"),
        ({"singleton_scope": "{host}"}, r"\{task\} and \{queue\}, not \{host\}"),
        ({"singleton_scope": "{queue"}, "brace"),
        ({"singleton_scope": "{queue}", "unique_on": ["x"]}, "no argument 'x'"),
    ],
)
def test_scopes_that_cannot_work(app, options, words):
    with pytest.raises(ConfigurationError, match=words):
        task(app, same, name="bad", **options).name
