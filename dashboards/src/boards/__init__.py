"""All boards, in the order of the menu."""

from __future__ import annotations

from dashboards.src.board import Board
from dashboards.src.boards.connections import CONNECTIONS
from dashboards.src.boards.delivery import DELIVERY
from dashboards.src.boards.drain import DRAIN
from dashboards.src.boards.operator import OPERATOR
from dashboards.src.boards.overview import OVERVIEW
from dashboards.src.boards.redis import REDIS

BOARDS: tuple[Board, ...] = (OVERVIEW, DELIVERY, CONNECTIONS, REDIS, DRAIN, OPERATOR)
