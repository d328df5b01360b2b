"""Requests and their answers: state and pages, publishing, and what every answer needs."""
