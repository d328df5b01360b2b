"""An upload that a Celery worker imports, watched in the browser."""
