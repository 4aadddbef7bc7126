"""The e1000 driver, split as the kernel's (drivers/net/ethernet/intel/e1000).

``e1000.py`` has structures, ``defs.py`` registers and bits (e1000_hw.h). ``hw.py``, ``phy.py`` and
``eeprom.py`` are the hardware layer (e1000_hw.c), ``param.py`` has module parameters. ``main.py``
with ``config.py``, ``rxmode.py``, ``txrx.py`` and ``watchdog.py`` is the net_device (e1000_main.c),
``ethtool.py`` its ethtool_ops.
"""
